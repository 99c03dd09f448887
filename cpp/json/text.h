#pragma once

#include <string>
#include <string_view>

namespace llm_proxy {

// A piece of JSON text taken as it stands in its source: one whole value, no white space around it.
// A view; empty means absent. The source must outlive it.
using JsonSlice = std::string_view;

// A string value inside a request or a reply, in whichever of two spellings its source had: the
// bytes between the quotes of a JSON string (still escaped, already validated) or plain UTF-8.
// Copying one into another JSON document needs no decoding when it is escaped already. A view; the
// source must outlive it.
class Text {
 public:
  Text() = default;
  static Text escaped(std::string_view between_quotes) { return Text(between_quotes, true); }
  static Text plain(std::string_view utf8) { return Text(utf8, false); }

  bool empty() const { return bytes_.empty(); }
  // True when the bytes are escaped JSON and hold at least one escape sequence.
  bool has_escapes() const { return escaped_ && bytes_.find('\\') != std::string_view::npos; }
  bool is_escaped() const { return escaped_; }
  std::string_view bytes() const { return bytes_; }

  // The UTF-8 this stands for. A lone surrogate escape becomes U+FFFD.
  std::string decode() const;
  void decode_to(std::string& out) const;
  // The same as a view: of the source where it holds no escape, else of `room`.
  std::string_view decode_in(std::string& room) const;
  // Appends the escaped form, without quotes.
  void escape_to(std::string& out) const;
  bool operator==(std::string_view plain) const;

 private:
  Text(std::string_view bytes, bool escaped) : bytes_(bytes), escaped_(escaped) {}

  std::string_view bytes_;
  bool escaped_ = false;
};

}  // namespace llm_proxy
