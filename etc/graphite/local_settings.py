"""Settings of graphite-web (pip install graphite-web), for GRAPHITE_SETTINGS_MODULE=local_settings.

/render needs no database, and so no migration. GRAPHITE_STORAGE_DIR and GRAPHITE_CONF_DIR are those of carbon.
"""

import os
from pathlib import Path

# Named here, because graphite-web else looks for it only at its start, before carbon has made it.
STANDARD_DIRS = [str(Path(os.environ.get("GRAPHITE_STORAGE_DIR", "/opt/graphite/storage")) / "whisper")]

# It signs sessions, of which /render has none. One that is not set is made up at each start.
SECRET_KEY = os.environ.get("GRAPHITE_SECRET_KEY") or os.urandom(32).hex()
ALLOWED_HOSTS = os.environ.get("GRAPHITE_ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
TIME_ZONE = os.environ.get("TZ") or "UTC"  # of the axes

# carbon.conf's CACHE_QUERY_PORT: values that carbon has not written yet come from there.
CARBONLINK_HOSTS = [f"127.0.0.1:{os.environ.get('CARBON_QUERY_PORT', '7002')}"]

LOG_RENDERING_PERFORMANCE = LOG_CACHE_PERFORMANCE = LOG_INFO_PERFORMANCE = False
LOG_FILE_INFO = LOG_FILE_EXCEPTION = LOG_FILE_CACHE = LOG_FILE_RENDERING = "-"  # standard output
