#include <pybind11/pybind11.h>

#include <cstdint>
#include <string_view>

#include "python/bind.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

// What one pass over a text finds that personal data cannot do without. The order of the bits is
// that of the rules in llm_proxy.rings.services.pii.
enum Candidate : std::uint32_t {
  kApiKey = 1u << 0,
  kEmail = 1u << 1,
  kIban = 1u << 2,
  kCard = 1u << 3,
  kAmex = 1u << 4,
  kSsn = 1u << 5,
  kPhone = 1u << 6,
  kIp = 1u << 7,
};

// A stretch of digits and what stands between them in numbers: every number lies inside one.
struct Stretch {
  int digits = 0, plus = 0, dots = 0;

  std::uint32_t candidates() const {
    std::uint32_t out = 0;
    if (digits >= 16) out |= kCard;
    if (digits >= 15) out |= kAmex;
    if (digits >= 9) out |= kSsn;
    if (digits >= 10 || (plus > 0 && digits >= 5)) out |= kPhone;
    if (digits >= 4 && dots >= 3) out |= kIp;
    return out;
  }
};

// What a character is to the scan below; most are nothing.
enum Kind : std::uint8_t {
  kNothing,
  kUpper,
  kDigit,
  kSeparator,
  kPlus,
  kDot,
  kAt,
  kHyphen,
  kLower
};

struct Kinds {
  std::uint8_t of[128] = {};
  constexpr Kinds() {
    for (char c = 'A'; c <= 'Z'; ++c) of[static_cast<int>(c)] = kUpper;
    for (char c = '0'; c <= '9'; ++c) of[static_cast<int>(c)] = kDigit;
    for (const char c : {' ', '(', ')'}) of[static_cast<int>(c)] = kSeparator;
    of['+'] = kPlus;
    of['.'] = kDot;
    of['@'] = kAt;
    of['-'] = kHyphen;
    of['g'] = of['x'] = kLower;  // "gho_", "xoxb-"
  }
};
constexpr Kinds kKinds;

template <typename Char>
std::uint32_t scan(const Char* text, Py_ssize_t size) {
  const auto is_decimal = [](Char c) {
    const auto code = static_cast<Py_UCS4>(c);
    return code < 128 ? kKinds.of[code] == kDigit : Py_UNICODE_ISDECIMAL(code) != 0;
  };
  const auto is_upper = [](Char c) { return c >= 'A' && c <= 'Z'; };
  const auto has = [&](Py_ssize_t at, std::string_view word) {
    if (at < 0 || size - at < static_cast<Py_ssize_t>(word.size())) return false;
    for (std::size_t i = 0; i < word.size(); ++i) {
      if (text[at + static_cast<Py_ssize_t>(i)] != static_cast<Char>(word[i])) return false;
    }
    return true;
  };
  std::uint32_t found = 0;
  Stretch stretch;
  bool inside = false;
  for (Py_ssize_t i = 0; i < size; ++i) {
    const auto code = static_cast<Py_UCS4>(text[i]);
    const bool plain = code < 128;
    std::uint8_t kind = plain ? kKinds.of[code] : std::uint8_t{kNothing};
    if (!plain && is_decimal(text[i])) kind = kDigit;
    switch (kind) {
      case kDigit:
        if (i >= 3 && is_decimal(text[i - 1]) && is_upper(text[i - 2]) && is_upper(text[i - 3])) {
          found |= kIban;
        }
        ++stretch.digits;
        inside = true;
        continue;
      case kPlus:
        ++stretch.plus;
        inside = true;
        continue;
      case kDot:
        ++stretch.dots;
        inside = true;
        continue;
      case kHyphen:
        if (has(i - 2, "sk-")) found |= kApiKey;
        inside = true;
        continue;
      case kSeparator:
        inside = true;
        continue;
      case kAt:
        found |= kEmail;
        break;
      case kUpper:
        if (text[i] == 'A' && (has(i, "AKIA") || has(i, "AIza"))) found |= kApiKey;
        break;
      case kLower:
        if (has(i, "xox") || (has(i, "gh") && size - i > 3 && text[i + 3] == '_')) found |= kApiKey;
        break;
      default:
        break;
    }
    if (inside) {
      found |= stretch.candidates();
      stretch = {};
      inside = false;
    }
  }
  return found | stretch.candidates();
}

std::uint32_t pii_candidates(const py::str& text) {
  PyObject* object = text.ptr();
#if PY_VERSION_HEX < 0x030C0000
  if (PyUnicode_READY(object) != 0) throw py::error_already_set();
#endif
  const auto size = PyUnicode_GET_LENGTH(object);
  switch (PyUnicode_KIND(object)) {
    case PyUnicode_1BYTE_KIND:
      return scan(PyUnicode_1BYTE_DATA(object), size);
    case PyUnicode_2BYTE_KIND:
      return scan(PyUnicode_2BYTE_DATA(object), size);
    default:
      return scan(PyUnicode_4BYTE_DATA(object), size);
  }
}

// A word that stands there `most` + 1 times in a row, divided by single blanks.
bool repeats_word(std::string_view text, int most) {
  std::string_view before;
  int repeats = 0;
  for (;;) {
    const auto end = text.find(' ');
    const auto word = text.substr(0, end);
    repeats = !word.empty() && word == before ? repeats + 1 : 0;
    if (repeats >= most) return true;
    if (end == std::string_view::npos) return false;
    before = word;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

void bind_text(py::module_& module) {
  module.def("pii_candidates", &pii_candidates, py::arg("text"),
             "The kinds of personal data a text may hold, a bit for each; others it cannot.");
  module.def(
      "repeats_word",
      [](const py::str& text, int most) {
        Py_ssize_t size = 0;
        const char* utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
        if (utf8 == nullptr) {  // lone surrogates: whoever asks looks himself
          PyErr_Clear();
          return true;
        }
        return repeats_word({utf8, static_cast<std::size_t>(size)}, most);
      },
      py::arg("text"), py::arg("most"), "Whether a word comes more than `most` times in a row.");
}

}  // namespace llm_proxy
