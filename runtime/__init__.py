"""What runs on the robot computer: supervisor, servo, policy, session, report. No torch here."""
