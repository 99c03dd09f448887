"""What ring plugins stand on: `host` is their way to the proxy; the rest reads and prices chats,
caches replies, keeps state and finds personal data.
"""
