#include <Python.h>

#include "python/embed.h"

// llm-proxyd: the same program as `python -m cli`, with the interpreter inside.
int main(int argc, char** argv) {
  if (!llm_proxy::start_python(argc, argv)) return 1;
  // SystemExit carries the status: PyRun_SimpleString ends the process with it, after what Python
  // does at exit.
  PyRun_SimpleString("from llm_proxy.cli import main\nsys.exit(main())\n");
  return 1;
}
