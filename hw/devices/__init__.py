"""What a person's hands move the arm with: one small protocol, one file a device."""
