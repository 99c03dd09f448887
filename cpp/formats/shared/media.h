#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/text.h"

namespace llm_proxy {

// Media.

struct DataUrl {
  Text mime_type;
  Text data;
  bool base64 = false;
};
std::optional<DataUrl> split_data_url(Text url);
std::string encode_base64(std::string_view bytes);
// Decodes base64 (either alphabet, padding optional); nothing when it is none.
std::optional<std::string> decode_base64(std::string_view digits);

}  // namespace llm_proxy
