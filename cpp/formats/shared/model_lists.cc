#include "formats/shared/model_lists.h"

#include "json/reader.h"

namespace llm_proxy {

namespace {

void write_entry(const ListedModel& model, std::int64_t now, JsonWriter& json) {
  json.begin_object().member("id", model.id).member("object", "model");
  json.member("created", now).member("owned_by", model.owner).end_object();
}

}  // namespace

std::string encode_openai_models(std::span<const ListedModel> models, std::int64_t now) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("object", "list").key("data").begin_array();
  for (const ListedModel& model : models) write_entry(model, now, json);
  json.end_array().end_object();
  return out;
}

std::string encode_openai_model(const ListedModel& model, std::int64_t now) {
  std::string out;
  JsonWriter json(out);
  write_entry(model, now, json);
  return out;
}

std::string listed_name(JsonSlice entry) {
  Text name = string_member(entry, "id");
  if (name.empty()) name = string_member(entry, "name");
  return name.decode();
}

}  // namespace llm_proxy
