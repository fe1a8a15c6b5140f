# Jobs for sidekiq. It says that it is ready when all is loaded and it is about to take the first job.
require "sidekiq"

RELEASE = 1

Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch("REDIS_URL", "redis://127.0.0.1:6379") }
  config.on(:startup) { system("sdsupervise", "ready") if ENV["NOTIFY_SOCKET"] }
end

class Work
  include Sidekiq::Worker

  def perform(number)
    sleep 0.2
    Sidekiq.redis { |redis| redis.rpush("done", "#{number} in release #{RELEASE}") }
  end
end
