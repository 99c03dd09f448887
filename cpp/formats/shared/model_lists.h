#pragma once

#include <span>
#include <string>

#include "formats/format.h"
#include "json/writer.h"

namespace llm_proxy {

// Lists of models: OpenAI's shape, which many formats use, and what all formats need.

std::string encode_openai_models(std::span<const ListedModel> models, std::int64_t now);
std::string encode_openai_model(const ListedModel& model, std::int64_t now);

// The name of an entry of an upstream's list: its "id", else its "name".
std::string listed_name(JsonSlice entry);

}  // namespace llm_proxy
