"""The log level below DEBUG."""

import logging

TRACE_LEVEL = 1
logging.addLevelName(TRACE_LEVEL, "TRACE")
