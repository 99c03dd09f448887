#pragma once

#include <memory>
#include <string_view>

#include "formats/format.h"

namespace llm_proxy {

// Losses.

void lose(Translation& translation, Loss::Class what, std::string_view field,
          std::string_view note = {});
// Top-level keys the model does not name, by the table of losses; unsupported for the first of
// class refuse.
Result<void> lose_rest(const Request& request, Translation& translation);
// unsupported, naming the field.
Error refusal_of(std::string_view field, std::string_view why);

// For the table of a codec.
template <typename Encoder>
std::unique_ptr<ReplyEncoder> make_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context);
}

}  // namespace llm_proxy
