#include "python/json_convert.h"

#include <simdjson.h>

#include <array>
#include <charconv>
#include <cstring>
#include <limits>

#include "json/text.h"

namespace llm_proxy {
namespace {

constexpr int kMaxDepth =
    900;  // below simdjson's 1024; deeper goes to json.loads, which has its own limit

// ---- text → Python

// Interned strings for keys: chat bodies use a few dozen, again and again. Lives as long as the
// process; only the lane fills it.
class KeyCache {
 public:
  PyObject* get(std::string_view key) {  // new reference
    if (key.size() > kMaxLength || key.empty()) return make(key);
    Slot& slot = slots_[hash(key) % slots_.size()];
    if (slot.object == nullptr || slot.size != key.size() ||
        std::memcmp(slot.bytes, key.data(), key.size()) != 0) {
      PyObject* made = make(key);
      if (made == nullptr) return nullptr;
      PyUnicode_InternInPlace(&made);
      Py_XDECREF(slot.object);
      slot.object = made;
      slot.size = static_cast<std::uint8_t>(key.size());
      std::memcpy(slot.bytes, key.data(), key.size());
    }
    Py_INCREF(slot.object);
    return slot.object;
  }

 private:
  static constexpr std::size_t kMaxLength = 31;
  struct Slot {
    PyObject* object = nullptr;
    std::uint8_t size = 0;
    char bytes[kMaxLength];
  };

  static PyObject* make(std::string_view key) {
    return PyUnicode_DecodeUTF8(key.data(), static_cast<Py_ssize_t>(key.size()), nullptr);
  }
  static std::size_t hash(std::string_view key) {
    std::size_t h = key.size();
    for (const char c : key) h = h * 31 + static_cast<unsigned char>(c);
    return h ^ (h >> 9);
  }

  std::array<Slot, 512> slots_;
};

KeyCache& key_cache() {
  static KeyCache cache;
  return cache;
}

simdjson::dom::parser& parser() {
  static thread_local simdjson::dom::parser parser;
  return parser;
}

PyObject* convert(simdjson::dom::element element, int depth);

PyObject* convert_object(simdjson::dom::object object, int depth) {
  PyOwned dict = PyOwned::steal(PyDict_New());
  if (!dict) return nullptr;
  for (const auto field : object) {
    const PyOwned key = PyOwned::steal(key_cache().get(field.key));
    if (!key) return nullptr;
    const PyOwned value = PyOwned::steal(convert(field.value, depth + 1));
    if (!value || PyDict_SetItem(dict.get(), key.get(), value.get()) != 0) return nullptr;
  }
  return dict.release();
}

PyObject* convert_array(simdjson::dom::array array, int depth) {
  // size() saturates at 0xFFFFFF: append rather than trust it for huge arrays.
  const std::size_t size = array.size();
  if (size >= 0xFFFFFF) {
    PyOwned list = PyOwned::steal(PyList_New(0));
    for (const auto item : array) {
      const PyOwned value = PyOwned::steal(convert(item, depth + 1));
      if (!list || !value || PyList_Append(list.get(), value.get()) != 0) return nullptr;
    }
    return list.release();
  }
  PyOwned list = PyOwned::steal(PyList_New(static_cast<Py_ssize_t>(size)));
  if (!list) return nullptr;
  Py_ssize_t at = 0;
  for (const auto item : array) {
    PyObject* value = convert(item, depth + 1);
    if (value == nullptr) return nullptr;
    PyList_SET_ITEM(list.get(), at++, value);
  }
  return list.release();
}

PyObject* convert(simdjson::dom::element element, int depth) {
  using simdjson::dom::element_type;
  if (depth > kMaxDepth) {
    PyErr_SetString(PyExc_RecursionError, "JSON is nested too deeply");
    return nullptr;
  }
  switch (element.type()) {
    case element_type::OBJECT:
      return convert_object(element.get_object().value_unsafe(), depth);
    case element_type::ARRAY:
      return convert_array(element.get_array().value_unsafe(), depth);
    case element_type::STRING: {
      const std::string_view text = element.get_string().value_unsafe();
      return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
    }
    case element_type::INT64:
      return PyLong_FromLongLong(element.get_int64().value_unsafe());
    case element_type::UINT64:
      return PyLong_FromUnsignedLongLong(element.get_uint64().value_unsafe());
    case element_type::DOUBLE:
      return PyFloat_FromDouble(element.get_double().value_unsafe());
    case element_type::BOOL:
      return PyBool_FromLong(element.get_bool().value_unsafe() ? 1 : 0);
    case element_type::NULL_VALUE:
      break;
  }
  Py_RETURN_NONE;
}

// A function of the json module, by name; borrowed.
PyObject* json_function(const char* name) {
  const PyOwned module = PyOwned::steal(PyImport_ImportModule("json"));
  const PyOwned function =
      PyOwned::steal(module ? PyObject_GetAttrString(module.get(), name) : nullptr);
  return function.get();  // the module keeps it
}

PyOwned loads(std::string_view json) {
  PyObject* function = json_function("loads");
  const PyOwned text = PyOwned::steal(
      PyUnicode_DecodeUTF8(json.data(), static_cast<Py_ssize_t>(json.size()), nullptr));
  if (function == nullptr || !text) return {};
  return PyOwned::steal(PyObject_CallOneArg(function, text.get()));
}

// ---- Python → text

enum class Written : std::uint8_t { yes, unknown, failed };  // unknown: ask json.dumps

void write_string(std::string_view utf8, std::string& out) {
  out += '"';
  Text::plain(utf8).escape_to(out);
  out += '"';
}

Written write(PyObject* value, std::string& out, int depth);

Written write_text(PyObject* value, std::string& out) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(value, &size);
  if (bytes == nullptr) {  // a lone surrogate: JSON can say it, escaped
    PyErr_Clear();
    return Written::unknown;
  }
  write_string({bytes, static_cast<std::size_t>(size)}, out);
  return Written::yes;
}

Written write_integer(PyObject* value, std::string& out) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow != 0) return Written::unknown;
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
  return Written::yes;
}

Written write_float(PyObject* value, std::string& out) {
  const double number = PyFloat_AS_DOUBLE(value);
  if (!(number - number == 0)) {
    PyErr_SetString(PyExc_ValueError, "NaN and infinities are not JSON");
    return Written::failed;
  }
  char* text = PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, nullptr);
  if (text == nullptr) return Written::failed;
  out += text;
  PyMem_Free(text);
  return Written::yes;
}

Written write_dict(PyObject* dict, std::string& out, int depth) {
  out += '{';
  Py_ssize_t at = 0;
  PyObject *key, *item;
  bool first = true;
  while (PyDict_Next(dict, &at, &key, &item)) {
    if (!PyUnicode_CheckExact(key)) return Written::unknown;
    if (!first) out += ',';
    first = false;
    if (const Written written = write_text(key, out); written != Written::yes) return written;
    out += ':';
    if (const Written written = write(item, out, depth + 1); written != Written::yes)
      return written;
  }
  out += '}';
  return Written::yes;
}

Written write_sequence(PyObject* sequence, std::string& out, int depth) {
  out += '[';
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(sequence); ++i) {
    if (i != 0) out += ',';
    const Written written = write(PySequence_Fast_GET_ITEM(sequence, i), out, depth + 1);
    if (written != Written::yes) return written;
  }
  out += ']';
  return Written::yes;
}

Written write(PyObject* value, std::string& out, int depth) {
  if (depth > kMaxDepth)
    return Written::unknown;  // json.dumps finds the cycle, or refuses the depth
  if (PyUnicode_CheckExact(value)) return write_text(value, out);
  if (PyDict_CheckExact(value)) return write_dict(value, out, depth);
  if (PyList_CheckExact(value) || PyTuple_CheckExact(value))
    return write_sequence(value, out, depth);
  if (value == Py_None) {
    out += "null";
  } else if (value == Py_True) {
    out += "true";
  } else if (value == Py_False) {
    out += "false";
  } else if (PyLong_CheckExact(value)) {
    return write_integer(value, out);
  } else if (PyFloat_CheckExact(value)) {
    return write_float(value, out);
  } else {
    return Written::unknown;
  }
  return Written::yes;
}

// json.dumps(value, allow_nan=False, separators=(",", ":")): escapes everything beyond ASCII, which
// is valid too.
bool dumps(PyObject* value, std::string& out) {
  PyObject* function = json_function("dumps");
  const PyOwned args = PyOwned::steal(Py_BuildValue("(O)", value));
  const PyOwned options =
      PyOwned::steal(Py_BuildValue("{sOs(ss)}", "allow_nan", Py_False, "separators", ",", ":"));
  if (function == nullptr || !args || !options) return false;
  const PyOwned text = PyOwned::steal(PyObject_Call(function, args.get(), options.get()));
  Py_ssize_t size = 0;
  const char* bytes = text ? PyUnicode_AsUTF8AndSize(text.get(), &size) : nullptr;
  if (bytes == nullptr) return false;
  out.append(bytes, static_cast<std::size_t>(size));
  return true;
}

// ---- comparing

bool same(simdjson::dom::element source, PyObject* value);

bool same_object(simdjson::dom::object source, PyObject* dict) {
  // Order counts: it reaches the upstream, and prompt caches depend on it.
  if (!PyDict_CheckExact(dict)) return false;
  Py_ssize_t at = 0;
  PyObject *key, *item;
  for (const auto field : source) {
    if (!PyDict_Next(dict, &at, &key, &item) || !PyUnicode_Check(key)) return false;
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(key, &size);
    if (bytes == nullptr || field.key != std::string_view(bytes, static_cast<std::size_t>(size))) {
      return false;
    }
    if (!same(field.value, item)) return false;
  }
  return !PyDict_Next(dict, &at, &key, &item);
}

bool same_array(simdjson::dom::array source, PyObject* list) {
  if (!PyList_CheckExact(list)) return false;
  Py_ssize_t at = 0;
  for (const auto item : source) {
    if (at >= PyList_GET_SIZE(list) || !same(item, PyList_GET_ITEM(list, at))) return false;
    ++at;
  }
  return at == PyList_GET_SIZE(list);
}

bool same_integer(std::int64_t number, PyObject* value) {
  int overflow = 0;
  return PyLong_CheckExact(value) && PyLong_AsLongLongAndOverflow(value, &overflow) == number &&
         overflow == 0;
}

bool same(simdjson::dom::element source, PyObject* value) {
  using simdjson::dom::element_type;
  switch (source.type()) {
    case element_type::OBJECT:
      return same_object(source.get_object().value_unsafe(), value);
    case element_type::ARRAY:
      return same_array(source.get_array().value_unsafe(), value);
    case element_type::STRING: {
      if (!PyUnicode_CheckExact(value)) return false;
      Py_ssize_t size = 0;
      const char* bytes = PyUnicode_AsUTF8AndSize(value, &size);
      return bytes != nullptr && source.get_string().value_unsafe() ==
                                     std::string_view(bytes, static_cast<std::size_t>(size));
    }
    case element_type::INT64:
      return same_integer(source.get_int64().value_unsafe(), value);
    case element_type::UINT64:
      return PyLong_CheckExact(value) &&
             PyLong_AsUnsignedLongLong(value) == source.get_uint64().value_unsafe();
    case element_type::DOUBLE:
      return PyFloat_CheckExact(value) &&
             PyFloat_AS_DOUBLE(value) == source.get_double().value_unsafe();
    case element_type::BOOL:
      return value == (source.get_bool().value_unsafe() ? Py_True : Py_False);
    case element_type::NULL_VALUE:
      return value == Py_None;
  }
  return false;
}

// A string may have no UTF-8 and an integer no 64 bits: then it differs, and the error says nothing
// more.
bool same_quietly(simdjson::dom::element source, PyObject* value) {
  const bool equal = same(source, value);
  PyErr_Clear();
  return equal;
}

// Matches each message with the nearest unused one of the same value at or after the last match:
// what plugins do is insert, drop and rewrite, hardly ever reorder.
void compare_messages(simdjson::dom::array source, PyObject* list, BodyChange& change) {
  std::vector<simdjson::dom::element> before;
  for (const auto message : source) before.push_back(message);
  const Py_ssize_t count = PyList_GET_SIZE(list);
  std::size_t next = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    std::int32_t from = -1;
    for (std::size_t j = next; j < before.size() && j < next + 8; ++j) {
      if (same_quietly(before[j], PyList_GET_ITEM(list, i))) {
        from = static_cast<std::int32_t>(j);
        next = j + 1;
        break;
      }
    }
    // A rewritten message in its own place: the next one is looked for behind it.
    if (from < 0 && static_cast<std::size_t>(count) == before.size() &&
        next == static_cast<std::size_t>(i)) {
      ++next;
    }
    if (from != i) change.messages = true;
    change.messages_from.push_back(from);
  }
  if (static_cast<std::size_t>(count) != before.size()) change.messages = true;
}

void note_all_keys(PyObject* body, BodyChange& change) {
  Py_ssize_t at = 0;
  PyObject *key, *item;
  while (PyDict_Check(body) && PyDict_Next(body, &at, &key, &item)) {
    const char* text = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : nullptr;
    if (text == nullptr) {
      PyErr_Clear();
    } else if (std::strcmp(text, "messages") == 0) {
      change.messages = true;
      change.messages_from.assign(
          PyList_Check(item) ? static_cast<std::size_t>(PyList_GET_SIZE(item)) : 0, -1);
    } else {
      change.keys.emplace_back(text);
    }
  }
  change.changed = true;
}

}  // namespace

PyOwned json_to_python(std::string_view json) {
  simdjson::dom::element root;
  if (parser().parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return loads(json);
  PyOwned value = PyOwned::steal(convert(root, 0));
  if (!value && PyErr_ExceptionMatches(PyExc_RecursionError)) {
    PyErr_Clear();
    return loads(json);
  }
  return value;
}

bool python_to_json(PyObject* value, std::string& out) {
  const std::size_t before = out.size();
  switch (write(value, out, 0)) {
    case Written::yes:
      return true;
    case Written::failed:
      break;
    case Written::unknown:
      out.resize(before);
      if (dumps(value, out)) return true;
      break;
  }
  out.resize(before);
  return false;
}

BodyChange compare_body(std::string_view source, PyObject* body) {
  BodyChange change;
  simdjson::dom::element root;
  simdjson::dom::object before;
  if (!PyDict_CheckExact(body) ||
      parser().parse(source.data(), source.size()).get(root) != simdjson::SUCCESS ||
      root.get_object().get(before) != simdjson::SUCCESS) {
    note_all_keys(body, change);
    return change;
  }
  std::size_t known = 0;
  bool in_order = true;
  Py_ssize_t at = 0;
  for (const auto field : before) {
    const PyOwned key = PyOwned::steal(key_cache().get(field.key));
    if (!key) {
      PyErr_Clear();
      continue;
    }
    PyObject *key_now, *item_now;
    in_order = in_order && PyDict_Next(body, &at, &key_now, &item_now) &&
               (key_now == key.get() ||
                (PyUnicode_Check(key_now) && PyUnicode_Compare(key_now, key.get()) == 0));
    PyObject* item = PyDict_GetItemWithError(body, key.get());
    if (item == nullptr) {
      PyErr_Clear();
      change.keys.emplace_back(field.key);
      continue;
    }
    ++known;
    simdjson::dom::array messages;
    if (field.key == "messages" && PyList_CheckExact(item) &&
        field.value.get_array().get(messages) == simdjson::SUCCESS) {
      compare_messages(messages, item, change);
    } else if (!same_quietly(field.value, item)) {
      change.keys.emplace_back(field.key);
    }
  }
  if (known != static_cast<std::size_t>(PyDict_GET_SIZE(body))) {
    PyObject *key, *item;
    at = 0;
    while (PyDict_Next(body, &at, &key, &item)) {
      const char* text = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : nullptr;
      simdjson::dom::element unused;
      if (text == nullptr) {
        PyErr_Clear();
      } else if (before.at_key(text).get(unused) != simdjson::SUCCESS) {
        if (std::strcmp(text, "messages") == 0) {
          change.messages = true;
          if (PyList_Check(item)) {
            change.messages_from.assign(static_cast<std::size_t>(PyList_GET_SIZE(item)), -1);
          }
        } else {
          change.keys.emplace_back(text);
        }
      }
    }
  }
  change.changed = change.messages || !change.keys.empty() || !in_order;
  return change;
}

}  // namespace llm_proxy
