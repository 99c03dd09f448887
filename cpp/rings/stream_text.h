#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace llm_proxy {

// What a request's plugins put in the place of its values, "[PII_EMAIL_1a2b3c4d]", and the values.
// A placeholder begins with '[', ends with ']', and has neither in between.
using Placeholders = std::map<std::string, std::string, std::less<>>;

// Puts values back into text that comes in pieces: a placeholder cut between two of them is put
// back whole, one that is not of this request stays. Holds back at most one placeholder's
// beginning.
class PlaceholderRestorer {
 public:
  // `values` outlives this.
  explicit PlaceholderRestorer(const Placeholders& values) : values_(values) {}

  // Appends to `out` what can be said of the text so far. `in_json`: the text is inside a JSON
  // document, and so must the values be.
  void add(std::string_view text, bool in_json, std::string& out);
  // The text has ended: what was held back is no placeholder.
  void finish(std::string& out);

 private:
  bool begins_one(std::string_view tail) const;

  const Placeholders& values_;
  std::string held_;
};

// Notices when text that comes in pieces has fallen into a loop: one word over and over, or nothing
// but line breaks. Remembers two words, however long the text.
class LoopDetector {
 public:
  static constexpr int kMaxRepeats = 15;  // of a word after its first
  static constexpr int kBreaks = 10;      // line breaks in a row that count as one stutter
  static constexpr int kMaxStutters = 3;

  enum class Found : std::uint8_t { nothing, loop, stutter };
  // Once something is found it stays found.
  Found add(std::string_view text);

 private:
  void end_word();

  static constexpr std::size_t kLongestWord = 256;
  std::string word_, before_;
  bool too_long_ = false;  // the word under way; equal to no other
  int repeats_ = 0;
  int breaks_ = 0;
  int stutters_ = 0;
  Found found_ = Found::nothing;
};

}  // namespace llm_proxy
