// Gemini generateContent: writes lists of models, and reads an upstream's.

#include "formats/gemini_generate/wire.h"
#include "formats/shared/model_lists.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::gemini_generate {

namespace {

void write_entry(const ListedModel& model, JsonWriter& json) {
  json.begin_object().member("name", "models/" + model.id);
  json.member("baseModelId", model.id).member("displayName", model.id);
  json.key("supportedGenerationMethods").begin_array();
  json.string("generateContent").string("streamGenerateContent").string("countTokens");
  json.end_array().end_object();
}

}  // namespace

std::string encode_models(std::span<const ListedModel> models, std::int64_t) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("models").begin_array();
  for (const ListedModel& model : models) write_entry(model, json);
  json.end_array().end_object();
  return out;
}

std::string encode_model(const ListedModel& model, std::int64_t) {
  std::string out;
  JsonWriter json(out);
  write_entry(model, json);
  return out;
}

std::string model_name(JsonSlice entry) {
  const JsonSlice methods = member(entry, "supportedGenerationMethods");
  if (!methods.empty() && methods.find("\"generateContent\"") == std::string_view::npos) return {};
  std::string name = listed_name(entry);
  if (name.starts_with("models/")) name.erase(0, 7);
  return name;
}

}  // namespace llm_proxy::gemini_generate
