#include "python/embed.h"

#include <Python.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

extern "C" PyObject* PyInit__core();

namespace llm_proxy {
namespace {

// The extension is part of this program: it has a name of its own here, and goes by the usual one
// as well.
constexpr const char* kPrepare = R"(
import sys
import _llm_proxy_core
sys.modules["llm_proxy._core"] = _llm_proxy_core
sys.path += [path for path in (")" LLM_PROXY_SOURCES R"(", ")" LLM_PROXY_SOURCES R"(/compat")
             if path not in sys.path]
)";

// The interpreter whose packages we use: the active environment's, else the one we were built with.
std::string interpreter() {
  if (const char* environment = std::getenv("VIRTUAL_ENV")) {
    const auto python = std::filesystem::path(environment) / "bin" / "python3";
    std::error_code error;
    if (std::filesystem::exists(python, error)) return python.string();
  }
  return LLM_PROXY_PYTHON;
}

PyStatus start(int argc, char** argv) {
  PyConfig config;
  PyConfig_InitIsolatedConfig(&config);
  config.install_signal_handlers = 1;
  PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, interpreter().c_str());
  if (!PyStatus_Exception(status)) status = PyConfig_SetBytesArgv(&config, argc, argv);
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  return status;
}

}  // namespace

bool start_python(int argc, char** argv) {
  if (PyImport_AppendInittab("_llm_proxy_core", PyInit__core) != 0) return false;
  const PyStatus status = start(argc, argv);
  if (PyStatus_Exception(status)) {
    std::fprintf(stderr, "Python does not start: %s\n",
                 status.err_msg != nullptr ? status.err_msg : "no reason given");
    return false;
  }
  return PyRun_SimpleString(kPrepare) == 0;
}

}  // namespace llm_proxy
