#!/bin/sh
# Kafka's server over the settings in KAFKA_..., and by other names two of its tools, as in the image apache/kafka.
set -eu
run() { java -Xmx512m -cp '/opt/kafka/libs/*' "$@"; }
case ${0##*/} in
kafka-topics.sh) run org.apache.kafka.tools.TopicCommand "$@" ;;
kafka-console-consumer.sh) exec java -Xmx256m -cp '/opt/kafka/libs/*' org.apache.kafka.tools.consumer.ConsoleConsumer "$@" ;;
*)
    settings=/tmp/server.properties
    env | sed -n 's/^KAFKA_//p' | while IFS='=' read -r name value; do
        printf '%s=%s\n' "$(printf %s "$name" | tr 'A-Z_' 'a-z.')" "$value"
    done >$settings
    run kafka.tools.StorageTool format --ignore-formatted --cluster-id Y2FwdGlvbmQtY29tcG9zZQ --config $settings
    exec java -Xmx512m -cp '/opt/kafka/libs/*' kafka.Kafka $settings
    ;;
esac
