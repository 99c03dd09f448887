"""A backend plugin whose access token is renewed when it expires."""
