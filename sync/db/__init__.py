"""The mirror's database: what is stored, and every statement that stores it."""
