#pragma once

#include "python/py_ref.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace llm_proxy {

// Writes the chunks of one streamed reply, dicts as a Python backend yields them, as server-sent
// frames.
//
// Owned by the backend's ChatStream (llm_proxy.backends.runtime.reply), which handles what is
// unusual. Lives on the lane; every function needs the GIL.
class ChatFrames {
 public:
  // What a chunk that leaves these out is given.
  ChatFrames(std::string_view id, std::int64_t created, std::string_view model);

  // The frame of `chunk` as bytes. None, and nothing noted: it is no plain chunk, look closer.
  PyOwned frame(PyObject* chunk);

  // Seen so far.
  bool finished = false;
  bool called_tools = false;
  bool counted = false;  // usage

 private:
  bool note(PyObject* chunk);
  bool write(PyObject* chunk);

  const std::string id_, created_, model_;  // as JSON
  std::string out_;
};

}  // namespace llm_proxy
