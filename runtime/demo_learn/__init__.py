"""`make demo-learn`: a simulated arm and a learner on one computer, watched while the arm gets better, and a page about it."""
