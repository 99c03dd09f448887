#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "rings/stream_text.h"

namespace llm_proxy {

// Personal data in text, as the patterns of `llm_proxy.rings.services.pii` find it: that file is
// the reference.

// False: none of the patterns can match. `text` is UTF-8; one pass, sixteen bytes at a step.
bool may_hold_pii(std::string_view text);

// The tokens of one request and what they stand for.
class PiiMasker {
 public:
  static constexpr std::size_t kMostValues = 10'000;

  // A tenant's value has the same token in all its requests. `values` outlives this, `secret` too.
  PiiMasker(std::string_view secret, std::string tenant, Placeholders& values)
      : secret_(secret), tenant_(std::move(tenant)), values_(values) {}

  // The text with tokens in the place of personal data. Nothing: letters beyond ASCII stand so that
  // only the reference can say, or there are more values than are kept.
  std::optional<std::string> mask(std::string_view text);

  // "[PII_EMAIL_1a2b3c4d]"
  std::string token(std::string_view label, std::string_view value);

 private:
  const std::string_view secret_;
  const std::string tenant_;
  Placeholders& values_;
};

// `text` with the values put back for the tokens that are in `values`. `in_json`: the text is JSON,
// and so must the values be.
std::string restored(std::string_view text, const Placeholders& values, bool in_json);

}  // namespace llm_proxy
