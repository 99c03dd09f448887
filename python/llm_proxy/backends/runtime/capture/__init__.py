"""The wire capture: what backend packages send and receive over HTTP, credentials hidden."""
