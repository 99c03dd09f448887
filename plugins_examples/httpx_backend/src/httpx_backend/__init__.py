"""A backend plugin on plain httpx, to copy and change."""
