#pragma once

namespace llm_proxy {

// Starts the interpreter inside this program, with `llm_proxy._core` built in. Isolated from the
// user's PYTHON* variables and site directory; an active virtual environment is honoured, the
// source tree comes last on the path. False, and one line on standard error, if it does not start.
// Once per process.
bool start_python(int argc, char** argv);

}  // namespace llm_proxy
