#pragma once

#include "python/py_ref.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llm_proxy {

// JSON text ↔ Python objects on the C API. Every function needs the GIL; what fails returns null or
// false with a Python error set.

// Parses like json.loads. What simdjson refuses and Python accepts (integers past 64 bits, lone
// surrogates, NaN) goes to json.loads itself.
PyOwned json_to_python(std::string_view json);

// Appends compact JSON, UTF-8 unescaped. Dictionaries, lists, tuples, strings, integers, floats,
// booleans and None by our own writer; what else json.dumps knows (Enum members, other keys) goes
// to it. NaN and infinities are refused: they are not JSON.
bool python_to_json(PyObject* value, std::string& out);

// What plugins did to a request.
struct BodyChange {
  bool changed = false;
  std::vector<std::string> keys;  // top-level keys added, changed or removed; not "messages"
  bool messages = false;          // the list differs in any way
  std::vector<std::int32_t>
      messages_from;  // for each message now: where the same value stood, or -1
};

// Compares a request with the object made from it. A source that simdjson refuses counts as changed
// throughout.
BodyChange compare_body(std::string_view source, PyObject* body);

}  // namespace llm_proxy
