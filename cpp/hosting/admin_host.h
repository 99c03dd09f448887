#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/worker_post.h"

namespace llm_proxy {

// The seam between an exchange and the admin API, which lives in another language's runtime. Who
// asks has been established here; what they may do is decided there.

struct AdminRequest {
  std::string method;
  std::string path;  // "/api/v1/plugins/A%2FB": as sent, still percent-encoded
  std::string query;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // without credentials
  std::string client_host;
  bool admin = false;  // an admin's key, or the only user of this machine; else a client
};

struct AdminReply {
  int status = 503;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body = R"({"detail":"the admin API is not available"})";
};

// Owned by the server's host, outlives its exchanges; may be called on any worker.
class AdminHost {
 public:
  using Done = std::function<void(AdminReply)>;

  virtual ~AdminHost() = default;
  // `done` is called once on `worker`, unless what this returns is dropped before: then nobody
  // wants the answer. The work itself goes on: half a change is no change.
  virtual std::shared_ptr<void> call(AdminRequest request, WorkerPost& worker, Done done) = 0;
};

}  // namespace llm_proxy
