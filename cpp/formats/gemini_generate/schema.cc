// Gemini generateContent: reads schemas in Gemini's dialect as JSON Schema.

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/gemini_generate/wire.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/words.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::gemini_generate {

namespace {

// Gemini's Schema in JSON Schema words: types in lower case, `nullable` as a type, counts as
// numbers.
class SchemaWriter {
 public:
  explicit SchemaWriter(std::string& out) : json_(out) {}

  void schema(JsonReader& in, int depth = 0) {
    if (in.kind() != JsonKind::object || depth > kMaxDepth) return copy(in);
    JsonSlice whole;
    if (!in.object(whole)) return;
    const bool nullable = member(whole, "nullable") == "true";
    JsonReader fields(whole);
    std::string_view key;
    Camel camel;
    fields.begin_object();
    json_.begin_object();
    while (fields.next_key(key)) {
      const std::string_view name = camel(key);
      if (name == "nullable" || name == "propertyOrdering") continue;
      if (name == "type") {
        json_.key("type");
        type(fields, nullable);
      } else if (name == "properties" || name == "$defs" || name == "definitions") {
        json_.key(Text::plain(key));
        map(fields, depth);
      } else if (name == "items" || name == "additionalProperties") {
        json_.key(name);
        schema(fields, depth + 1);
      } else if (name == "anyOf" || name == "oneOf" || name == "allOf" || name == "prefixItems") {
        json_.key(name);
        list(fields, depth);
      } else if (is_count(name) && fields.kind() == JsonKind::string) {
        count(name, fields);
      } else {
        json_.key(Text::plain(is_word(name) ? name : key));
        copy(fields);
      }
    }
    json_.end_object();
  }

 private:
  static constexpr int kMaxDepth = 24;

  static bool is_count(std::string_view name) {
    return name == "minItems" || name == "maxItems" || name == "minLength" || name == "maxLength" ||
           name == "minProperties" || name == "maxProperties";
  }
  static bool is_word(std::string_view name) { return is_count(name); }

  void copy(JsonReader& in) {
    JsonSlice value;
    if (in.value(value)) json_.raw(value);
  }

  // Protobuf writes 64-bit numbers as strings; what is none stays one.
  void count(std::string_view name, JsonReader& in) {
    Text text;
    in.string(text);
    const std::string digits = text.decode();
    std::int64_t number = 0;
    const auto end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, number);
    if (read.ec == std::errc() && read.ptr == end) {
      json_.member(name, number);
    } else {
      json_.member(name, text);
    }
  }

  void lower(Text word) {
    std::string name = word.decode();
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    json_.string(std::string_view(name));
  }

  void type(JsonReader& in, bool nullable) {
    if (in.kind() != JsonKind::string) return copy(in);
    Text word;
    in.string(word);
    if (!nullable) return lower(word);
    json_.begin_array();
    lower(word);
    json_.string("null").end_array();
  }

  void map(JsonReader& in, int depth) {
    if (in.kind() != JsonKind::object) return copy(in);
    std::string_view key;
    in.begin_object();
    json_.begin_object();
    while (in.next_key(key)) {
      json_.key(Text::plain(key));
      schema(in, depth + 2);
    }
    json_.end_object();
  }

  void list(JsonReader& in, int depth) {
    if (in.kind() != JsonKind::array) return copy(in);
    in.begin_array();
    json_.begin_array();
    while (in.next_item()) schema(in, depth + 2);
    json_.end_array();
  }

  JsonWriter json_;
};

bool is_gemini_dialect(JsonSlice schema) {
  static constexpr std::array<std::string_view, 12> kSigns{
      "\\u",  // any of these, perhaps
      "\"STRING\"", "\"OBJECT\"",        "\"ARRAY\"",         "\"INTEGER\"",
      "\"NUMBER\"", "\"BOOLEAN\"",       "\"NULL\"",          "\"nullable\"",
      "\"any_of\"", "ropertyOrdering\"", "roperty_ordering\""};
  return std::any_of(kSigns.begin(), kSigns.end(), [&](std::string_view sign) {
    return schema.find(sign) != std::string_view::npos;
  });
}

}  // namespace

JsonSlice json_schema(JsonSlice schema, Request& request) {
  if (!is_gemini_dialect(schema)) return schema;
  std::string& out = request.owned.emplace_back();
  JsonReader in(schema);
  SchemaWriter(out).schema(in);
  return out;
}

}  // namespace llm_proxy::gemini_generate
