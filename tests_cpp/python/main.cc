#include <Python.h>

#include <gtest/gtest.h>

#include "python/embed.h"

// The tests' main thread is the lane: it holds the GIL except inside of a running loop's select.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!llm_proxy::start_python(1, argv)) return 1;
  const int failed = RUN_ALL_TESTS();
  return Py_FinalizeEx() < 0 ? 1 : failed;
}
