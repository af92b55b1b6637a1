"""How everything is doing: facts out of the database, what they mean, and the words for it."""
