"""How many signatures each sender made, month by month: counted by the key agent, kept in the database."""
