"""A backend plugin that repeats what the user said."""
