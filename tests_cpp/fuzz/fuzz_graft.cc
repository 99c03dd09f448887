#include "codec_fuzz.h"
#include "json/graft.h"

// Three lines: a document, a paraphrase of it, the paraphrase edited. What comes out is JSON;
// without an edit it is the document.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llm_proxy;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t first = input.find('\n');
  const std::size_t second = first == input.npos ? first : input.find('\n', first + 1);
  if (second == input.npos) return 0;
  // Each exactly as large as it is, so that a read past its end is seen.
  const auto line = [&](std::size_t begin, std::size_t end) {
    return std::vector<char>(data + begin, data + end);
  };
  const std::vector<char> lines[] = {line(0, first), line(first + 1, second),
                                     line(second + 1, size)};
  const std::string_view source(lines[0].data(), lines[0].size());
  const std::string_view before(lines[1].data(), lines[1].size());
  const std::string_view after(lines[2].data(), lines[2].size());
  const auto made = graft(source, before, after);
  if (!fuzz::is_json(source) || !fuzz::is_json(before) || !fuzz::is_json(after)) {
    // Bytes that are no UTF-8 are carried as they stand; what is no JSON has no counterpart.
    return 0;
  }
  if (made) fuzz::check(fuzz::is_json(*made));
  const auto untouched = graft(source, before, before);
  fuzz::check(untouched && source.find(*untouched) != source.npos);
  return 0;
}
