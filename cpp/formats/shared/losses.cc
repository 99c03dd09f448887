#include "formats/shared/losses.h"

namespace llm_proxy {

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
    for (const LossRow& row : format_of(request.format).losses) {
      if (row.field == key) what = row.what;
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
