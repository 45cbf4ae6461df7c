"""Cases: what asks for a person becomes work. How they move, how they are ordered, what is alike; nothing is stored."""
