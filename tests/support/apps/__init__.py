"""Applications that the server tests run behind a stabilizer."""
