from llm_proxy.cli import main
from llm_proxy.cli.arguments import parser

__all__ = ["main", "parser"]
