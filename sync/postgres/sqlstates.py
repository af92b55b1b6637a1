"""What PostgreSQL's error codes mean here, and the words of errors that come without one.

Source: PostgreSQL's documentation, appendix A, *PostgreSQL Error Codes*.
"""

import re

# What a lost, refused or shutting-down server answers: classes 08 and 57, and 53 (out of connections, disk or memory).
UNAVAILABLE_CLASSES = ("08", "53", "57")
READ_ONLY = "25006"
UNSUPPORTED = "0A000"
MISSING = ("42P01", "42703", "3F000")
"""A table, a column or a schema that is not there."""
ROW_SECURITY = "42501"
"""No privilege on a table, or a policy of it that one row breaks."""
NOT_FOR_ROWS = ("25", "40", "55P03", "58", "XX")
"""The state of the transaction, others who write at the same time, locks, and faults of the server itself."""
FULL = "53300"
PASSING = {
    READ_ONLY: ("can only be read", "let DATABASE_URL lead to the primary server"),
    "53100": ("has no room left on its disk", "make room there"),
    "53200": ("is out of memory", "give it more, or end other sessions"),
    FULL: ("takes no more connections", "end other sessions, or raise its max_connections"),
    "53400": ("may take no more room for temporary files", "raise its temp_file_limit or its work_mem"),
    "57014": ("ended a statement", "see who cancels statements, or whether a pooler or proxy gives it too little time"),
    "57P05": ("ended the session", "raise its idle_session_timeout"),
    "25P03": ("ended the session", "raise its idle_in_transaction_session_timeout"),
    "25P04": ("ended the session", "raise its transaction_timeout"),
    "57P01": ("ended the session", "start it again if it was stopped"),
    "57P02": ("has crashed", "see its log"),
    "58P01": ("misses a file of its own", "start it anew if its programs were upgraded while it ran, or see its log"),
    "57P03": ("is starting or shutting down", "see its log if that takes long"),
}
"""What ends without anything being done here: what the database says, and what somebody can do about it there."""
GONE = ("57P01", "57P02", "57P03", "58P01")
"""Of these, what a server says that is going, gone or coming, or whose programs are."""
FULL_WORDS = (
    *("too many connections for", "too many clients already", "remaining connection slots are reserved"),
    *("no more connections allowed", "query_wait_timeout"),  # PgBouncer's
    *("zu viele Verbindungen", "die verbleibenden Verbindungen sind"),
    *("demasiadas conexiones", "demasiados clientes", "las conexiones restantes están"),
    *("trop de connexions", "trop de clients", "emplacements de connexions restants"),
    *("troppe connessioni", "troppi client", "rimanenti slot di connessione"),
    *("för många uppkopplingar", "för många klienter", "resterande anslutningsslottar"),
    *("слишком много подключений", "слишком много клиентов", "оставшиеся слоты подключений"),
    *("занадто багато підключень", "забагато клієнтів", "слоти підключень, які залишились"),
    *("が多すぎます", "残りの接続スロット"),
    *("접속수를 초과", "접속자 수를 초과", "남은 연결 슬롯"),
    *("的连接太多了", "已经有太多的客户", "已保留的连接位置"),
)
"""Libpq tells of a refused connection in the server's words alone, without its code: here in each language that the
server's catalogs have, by `lc_messages`."""
REFUSED = re.compile(r"failed: [^:\n]+:  ")
"""How libpq tells what a server has answered instead of opening a session: behind FATAL, in its language."""
PROTOCOL, STATEMENT_POOLING = "08P01", "statement pooling mode"
"""What PgBouncer says to whoever begins a transaction where each statement may go to another session."""
STARTUP_PARAMETER = "unsupported startup parameter"
"""What PgBouncer says to whoever brings a setting along that it keeps for no session."""
LOCKED = "55P03"
BUSY = {
    "40001": "another transaction changed the same rows",
    "40P01": "another transaction and this one waited for each other",
    LOCKED: "another transaction held a lock for too long",
}
"""What the database undoes as a whole, and asks to do again."""
