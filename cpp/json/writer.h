#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "json/text.h"

namespace llm_proxy {

// Appends JSON to a string. Commas come by themselves: one is due unless the last byte opens
// something. Lives no longer than one call; whoever writes a value in several calls makes a new
// writer for each whole value.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out), start_(out.size()) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return put('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return put(']'); }

  // A key that needs no escaping: a literal of ours.
  JsonWriter& key(std::string_view name) {
    comma();
    out_ += '"';
    out_ += name;
    out_ += "\":";
    return *this;
  }
  JsonWriter& key(Text name) {
    string(name);
    return put(':');
  }

  JsonWriter& string(Text text) {
    begin_string();
    text.escape_to(out_);
    return end_string();
  }
  JsonWriter& string(std::string_view utf8) { return string(Text::plain(utf8)); }
  // A string in pieces: append() what comes between.
  JsonWriter& begin_string() {
    comma();
    return put('"');
  }
  JsonWriter& append(Text text) {
    text.escape_to(out_);
    return *this;
  }
  JsonWriter& append(std::string_view utf8) { return append(Text::plain(utf8)); }
  JsonWriter& end_string() { return put('"'); }

  // A whole valid value as it stands.
  JsonWriter& raw(JsonSlice json) {
    comma();
    out_ += json;
    return *this;
  }
  JsonWriter& integer(std::int64_t value) {
    comma();
    char digits[24];
    out_.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
    return *this;
  }
  JsonWriter& boolean(bool value) { return raw(value ? "true" : "false"); }
  JsonWriter& null() { return raw("null"); }

  // Members, for the common shapes. The second group writes nothing when the value is absent.
  JsonWriter& member(std::string_view name, Text text) { return key(name).string(text); }
  JsonWriter& member(std::string_view name, std::string_view utf8) {
    return key(name).string(utf8);
  }
  JsonWriter& member(std::string_view name, const char* utf8) { return key(name).string(utf8); }
  JsonWriter& member(std::string_view name, std::int64_t value) { return key(name).integer(value); }
  JsonWriter& member_raw(std::string_view name, JsonSlice json) { return key(name).raw(json); }
  JsonWriter& member_bool(std::string_view name, bool value) { return key(name).boolean(value); }
  JsonWriter& member_null(std::string_view name) { return key(name).null(); }

  JsonWriter& optional(std::string_view name, Text text) {
    return text.empty() ? *this : member(name, text);
  }
  JsonWriter& optional_raw(std::string_view name, JsonSlice json) {
    return json.empty() ? *this : member_raw(name, json);
  }

  std::string& out() { return out_; }

 private:
  void comma() {
    if (out_.size() == start_) return;
    const char last = out_.back();
    if (last != '{' && last != '[' && last != ':') out_ += ',';
  }
  JsonWriter& open(char bracket) {
    comma();
    return put(bracket);
  }
  JsonWriter& put(char c) {
    out_ += c;
    return *this;
  }

  std::string& out_;
  std::size_t start_;
};

}  // namespace llm_proxy
