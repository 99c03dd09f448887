"""Code Assist behind a Google login: the base class `connector` and the strategies it is built
from."""
