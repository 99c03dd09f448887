#include "formats/shared/losses.h"

#include <array>

namespace llm_proxy {

namespace {

struct LossRow {
  WireFormat from;
  std::string_view field;
  Loss::Class what;
};

// Top-level keys without a place in the canonical model. What is not listed is a key nobody told us
// of: degrade.
constexpr std::array kLossRows{
    LossRow{WireFormat::openai_chat, "audio", Loss::Class::degrade},
    LossRow{WireFormat::openai_chat, "web_search_options", Loss::Class::refuse},
    LossRow{WireFormat::openai_chat, "plugins", Loss::Class::refuse},
    LossRow{WireFormat::openai_chat, "modalities", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prediction", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "store", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "metadata", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "service_tier", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prompt_cache_key", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prompt_cache_options", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prompt_cache_retention", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "moderation", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "usage", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "provider", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "background", Loss::Class::refuse},
    LossRow{WireFormat::openai_responses, "prompt", Loss::Class::refuse},
    LossRow{WireFormat::openai_responses, "store", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "include", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "metadata", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "client_metadata", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "service_tier", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "stream_options", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "prompt_cache_key", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "prompt_cache_options", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "prompt_cache_retention", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "moderation", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "access_programs", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "provider", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "cachedContent", Loss::Class::refuse},
    LossRow{WireFormat::gemini_generate, "responseModalities", Loss::Class::degrade},
    LossRow{WireFormat::gemini_generate, "speechConfig", Loss::Class::degrade},
    LossRow{WireFormat::gemini_generate, "safetySettings", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "modelArmorConfig", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "labels", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "serviceTier", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "store", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "container", Loss::Class::refuse},
    LossRow{WireFormat::anthropic_messages, "mcp_servers", Loss::Class::refuse},
    LossRow{WireFormat::anthropic_messages, "thread", Loss::Class::refuse},
    LossRow{WireFormat::anthropic_messages, "metadata", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "service_tier", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "cache_control", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "safeguards", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "inference_geo", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "billing_policy", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "diagnostics", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "speed", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "fallbacks", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "betas", Loss::Class::drop},
};

}  // namespace

void lose(Translation& translation, Loss::Class what, std::string_view field,
          std::string_view note) {
  for (const Loss& loss : translation.losses) {
    if (loss.field == field && loss.note == note) return;
  }
  translation.losses.push_back({what, std::string(field), std::string(note)});
}

Result<void> lose_rest(const Request& request, Translation& translation) {
  if (!request.conversation.empty() && !translation.view) {
    Error error{ErrorKind::not_found, "Conversation with id '" + request.conversation.decode() +
                                          "' not found: it was not made here, or is forgotten"};
    error.param = "conversation";
    return error;
  }
  if (!request.previous_response_id.empty() && !translation.view) {
    Error error = refusal_of("previous_response_id", "needs a store this backend does not have");
    error.code = "previous_response_not_found";
    return error;
  }
  for (const auto& [key, value] : request.rest) {
    Loss::Class what = Loss::Class::degrade;
    for (const LossRow& row : kLossRows) {
      if (row.from == request.format && row.field == key) what = row.what;
    }
    if (what == Loss::Class::refuse && value != "null" && value != "[]" && !translation.view) {
      return refusal_of(key, "has no counterpart in the upstream's format");
    }
    lose(translation, what, key);
  }
  return {};
}

Error refusal_of(std::string_view field, std::string_view why) {
  Error error;
  error.kind = ErrorKind::unsupported;
  error.param = field;
  error.message = "'";
  error.message += field;
  error.message += "' ";
  error.message += why;
  error.message += "; leave it out or choose another backend.";
  return error;
}

}  // namespace llm_proxy
