"""What a manager is made of: there is one of each for a manager."""
