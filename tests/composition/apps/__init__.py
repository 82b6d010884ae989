"""What the servers of these tests run: one small program among other packages, bare and wrapped."""
