"""The link between robots and a learner: messages, the protocol of both sides without any socket, keys and the sockets."""
