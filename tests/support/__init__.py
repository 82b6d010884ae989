"""Real servers, real sockets and the programs between them."""
