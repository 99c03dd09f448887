#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "json/text.h"

namespace llm_proxy {

enum class JsonKind : std::uint8_t { none, object, array, string, number, boolean, null };

// What a reader refuses although JSON's grammar allows it, because most programs cannot hold it.
struct JsonLimits {
  int depth = 512;                // objects and arrays inside each other
  bool finite_numbers = false;    // 1e999 and numbers of more than a thousand characters
  bool whole_characters = false;  // \ud800 without its other half
  // An object that has a member twice, however it is spelled ("mod\u0065l" is "model"): of two
  // readers each may believe another one of the two (RFC 8259, 4). Also one of more members than
  // kMaxMembers.
  bool unique_members = false;
};

// Reads one JSON value front to back, giving views into the source instead of building a tree.
//
//   JsonReader json(body);
//   std::string_view key;
//   if (json.begin_object()) {
//     while (json.next_key(key)) {
//       if (key == "model") json.string(model);     // a value nobody takes is skipped by the next
//       next_key()
//     }
//   }
//   if (!json.finish()) return json.error(ErrorKind::malformed_request);
//
// Everything that is passed over is checked: grammar, escapes, numbers, control characters, depth.
// UTF-8 is not; the owner of the bytes checks the whole of them once with valid_utf8(). The first
// fault sticks: from then on every call returns false, so a decoder looks only once, at its end.
// Needs no padding behind the source.
class JsonReader {
 public:
  // Objects and arrays that may be open through begin_*() at one time.
  static constexpr std::size_t kMaxOpen = 32;
  // Characters of a number, where limits say `finite_numbers`.
  static constexpr std::ptrdiff_t kMaxNumber = 1000;

  // Members of one object, where limits say `unique_members`.
  static constexpr std::size_t kMaxMembers = 1u << 16;

  explicit JsonReader(std::string_view json, JsonLimits limits = {})
      : begin_(json.data()), at_(json.data()), end_(json.data() + json.size()), limits_(limits) {}

  // The kind of the value that comes next; none at a fault or at the end.
  JsonKind kind();

  // Enters the object that comes next. A different kind is a fault.
  bool begin_object();
  // The next member's key; false behind the last one, when the object is closed. `key` is decoded.
  bool next_key(std::string_view& key);
  bool begin_array();
  bool next_item();

  // Each takes the next value, or faults when it is of another kind.
  bool string(Text& out);
  bool boolean(bool& out);
  bool integer(std::int64_t& out);  // 12, 12.0 and 1.2e1; a fraction is cut off
  bool number(JsonSlice& out);      // its spelling
  bool object(JsonSlice& out);
  bool value(JsonSlice& out);  // of any kind
  bool skip();
  // Takes a null when one comes next.
  bool null();

  // The same for lenient decoders: a value of another kind is skipped and `out` stays as it was.
  bool maybe_string(Text& out) { return kind() == JsonKind::string ? string(out) : skip_false(); }
  bool maybe_integer(std::int64_t& out) {
    return kind() == JsonKind::number ? integer(out) : skip_false();
  }

  // Nothing but white space is left, and nothing was wrong.
  bool finish();
  bool failed() const { return failed_; }
  // Sets a fault at the value read last: "messages[2].role: must be …".
  bool fail(std::string_view problem);
  // What was wrong, with the path to it. Only after a failure.
  Error error(ErrorKind kind) const;
  // The path to the value read last: "messages[2].role".
  std::string path() const;

  // Offset of the value that comes next.
  std::size_t position();
  // The source from `start` (a position()) up to what was read last.
  JsonSlice since(std::size_t start) const {
    return {begin_ + start, static_cast<std::size_t>(at_ - begin_) - start};
  }
  std::size_t offset_of(std::string_view slice) const {
    return static_cast<std::size_t>(slice.data() - begin_);
  }

 private:
  // Trivial, so that making a reader touches none of them.
  struct Frame {
    const char* key;
    std::uint32_t key_size;
    bool first;
    std::int64_t index;  // -1: an object
    std::size_t names;   // where its members begin in names_
  };

  void space() {
    while (at_ != end_ && static_cast<unsigned char>(*at_) <= ' ' && is_space(*at_)) ++at_;
  }
  static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
  bool take(char expected, std::string_view problem);
  bool begin(char opening, std::int64_t index, std::string_view problem);
  bool scan_string(std::string_view& between_quotes);
  bool scan_value(int depth);
  bool scan_number();
  bool is_finite(std::string_view number) const;
  bool scan_unicode_escape();
  bool scan_word(std::string_view word);
  bool note_name(std::string_view raw, std::size_t first);
  bool end_names(std::size_t first);
  bool fail_twice(std::string_view name);
  bool skip_false() {
    skip();
    return false;
  }

  const char* begin_;
  const char* at_;
  const char* end_;
  JsonLimits limits_;
  bool pending_ = true;  // a value is due at at_ that nobody has taken
  bool failed_ = false;
  std::size_t open_ = 0;
  std::string key_scratch_;
  std::vector<std::string_view> names_;   // of the objects that are open, one behind the other
  std::list<std::string> decoded_names_;  // those that were spelled with escapes
  std::string problem_;
  std::array<Frame, kMaxOpen> frames_;
};

// True when the bytes are well-formed UTF-8.
bool valid_utf8(std::string_view bytes);

// True when `json` is exactly one JSON object (white space around it allowed).
bool is_json_object(std::string_view json);

// Appends `json` without the white space between its tokens. `json` is valid.
void compact_to(JsonSlice json, std::string& out);

// The value of `key` in the object `json`; empty when absent or when `json` is no object. The last
// one wins.
JsonSlice member(JsonSlice json, std::string_view key);
// The same for a string member.
Text string_member(JsonSlice json, std::string_view key);

}  // namespace llm_proxy
