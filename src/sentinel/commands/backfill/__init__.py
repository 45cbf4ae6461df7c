"""The features of a history, as `sentinel features build` writes them: piece after piece, in memory that is bounded."""
