"""Where what happens is told to the world outside: nothing below the edge imports from here."""
