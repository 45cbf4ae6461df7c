"""Cases over HTTP: the queue, a case with all that belongs to it, and what people do with them."""
