#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/result.h"
#include "base/worker_post.h"

namespace llm_proxy {

// The seam between an exchange and a backend that lives in another language's runtime. The engine
// sees only what is here; cpp/python/py_backend implements it for Python. A hosted backend speaks
// OpenAI chat: it is given a chat request, it answers a chat completion or chat SSE frames, and the
// exchange translates for every other frontend.

struct HostedRequest {
  std::string instance;  // "my-backend", "my-backend.2": BackendConfig::name
  std::string model;     // what the backend should ask its upstream for
  std::string body;      // a complete OpenAI chat request
  bool stream = false;
  std::string request_id;
  std::string session_id;  // empty: none known
  std::string client_host;
  std::vector<std::pair<std::string, std::string>>
      headers;  // the client's, names in lower case, credentials removed
};

struct HostedHead {
  int status = 200;
  bool streaming = false;  // true: on_data brings SSE frames; false: the bytes of one JSON body
  std::string media_type;
  std::vector<std::pair<std::string, std::string>>
      headers;  // the backend's own; hop-by-hop and framing names removed
};

// Receives one reply. Implemented by the exchange; held by the call until it ends.
// Every function runs on the exchange's worker (through its WorkerPost), never after cancel() has
// returned there.
//
//   on_head on_data* (on_end | on_error)      or      on_error
//
// on_error before on_head: nothing was said yet and another backend may be tried. After on_head:
// the stream is cut. A streamed reply's frames are whole: on_data never cuts a frame, and may carry
// several. `data: [DONE]` is part of the data when the backend ended well; on_end without it means
// the backend stopped early.
class HostedSink {
 public:
  virtual ~HostedSink() = default;
  virtual void on_head(HostedHead head) = 0;
  virtual void on_data(std::string bytes) = 0;
  virtual void on_end() = 0;
  virtual void on_error(Error error) = 0;
};

// One running call, from the exchange's side. Touched on the exchange's worker only. Dropping it
// cancels it.
class HostedCall {
 public:
  // Bytes given to the sink and not yet consumed: above high the backend's pump waits, below low it
  // goes on.
  static constexpr std::size_t kHighWatermark = 64 * 1024;
  static constexpr std::size_t kLowWatermark = 16 * 1024;

  virtual ~HostedCall() = default;
  // The client is gone, or the exchange has given up: the backend's own stream is closed at once.
  // Idempotent; after it the sink hears nothing more.
  virtual void cancel() = 0;
  // `bytes` of on_data have been written to the client (or thrown away).
  virtual void consumed(std::size_t bytes) = 0;
};

struct HostedModels {
  std::string instance;
  std::vector<std::string> models;
};

// What a backend lends to the engine, where the engine itself speaks to the upstream.
struct HostedKey {
  std::string value;         // a secret
  std::int64_t expires = 0;  // Unix milliseconds; 0: only for those who wait for it
};

// Every backend of one runtime. Owned by the server, outlives its exchanges; all functions may be
// called on any worker.
class BackendHost {
 public:
  virtual ~BackendHost() = default;
  // Never blocks and never fails: what goes wrong reaches the sink as on_error. `worker` outlives
  // the call.
  virtual std::shared_ptr<HostedCall> call(HostedRequest request, std::shared_ptr<HostedSink> sink,
                                           WorkerPost& worker) = 0;
  // What the running backends offer, for GET /v1/models; a backend that fails to say is left out.
  virtual void models(WorkerPost& worker, std::function<void(std::vector<HostedModels>)> done) = 0;
  // The key of a backend with `hosted_key`; `refused` is one the upstream would not have, or empty.
  // `done` is called once.
  virtual void key(std::string instance, std::string refused, WorkerPost& worker,
                   std::function<void(const Result<HostedKey>&)> done) = 0;
};

}  // namespace llm_proxy
