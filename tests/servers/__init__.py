"""What a socket gets, shown on real servers."""
