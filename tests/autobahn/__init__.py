"""The Autobahn test suite's fuzzing client against an echo application, bare and behind the middleware."""
