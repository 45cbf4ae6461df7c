"""The console: the web pages that people work in, in a process of its own. It reads the view, and asks the server."""
