"""What the servers of these tests run: one small program among the packages of others, bare and wrapped."""
