"""Every code pattern that fastapi-websocket-stabilizer publishes, running on wsstab."""
