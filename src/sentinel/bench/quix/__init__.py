"""The other side of `sentinel bench stream`: it runs in an environment with Quix Streams, without our package."""
